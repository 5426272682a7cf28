"""What a perturbation is made from: its settings, its parametrisations and where it starts."""
