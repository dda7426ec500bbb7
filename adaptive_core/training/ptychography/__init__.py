"""The model of Schloz et al. and its training, by the papers' reward and by the quality of the final image."""
