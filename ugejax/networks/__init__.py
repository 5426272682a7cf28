"""Networks of protectors, surrogates and hackers, by name."""

from ugejax.networks.classifier import Classifier as Classifier
from ugejax.networks.functional import Functional as Functional
from ugejax.networks.pretrained import load_pretrained as load_pretrained
from ugejax.networks.registry import NETWORKS as NETWORKS
from ugejax.networks.registry import Network as Network
from ugejax.networks.registry import build as build
from ugejax.networks.registry import count_parameters as count_parameters
from ugejax.networks.registry import has_batch_norm as has_batch_norm
from ugejax.networks.registry import initial_variables as initial_variables
from ugejax.networks.registry import variable_shapes as variable_shapes
from ugejax.networks.weights import read_weights as read_weights
from ugejax.networks.weights import write_weights as write_weights
