"""3D Gaussian splats: how they are stored, how they are judged, and how they are made without a model."""
