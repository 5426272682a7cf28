"""Keys on disk and on their way: which releases a key has made, and how a partner gets one."""
