"""The model microservice: one model, kept loaded, that makes splats for those who ask over HTTP."""
