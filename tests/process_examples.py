"""What processes are given that tests start for themselves."""

import os


def with_devices(count: int) -> str:
    """XLA_FLAGS of a process that has so many devices of one CPU; what `conftest` chose for all processes stays."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
