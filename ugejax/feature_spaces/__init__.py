"""Feature spaces common to other networks: frozen image encoders whose weights the user has on the disk."""

from ugejax.feature_spaces.load import FeatureSpace, load_feature_space, read_prototypes

__all__ = ["FeatureSpace", "load_feature_space", "read_prototypes"]
