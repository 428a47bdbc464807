"""The theory of the GAN game, made checkable: closed forms and quadrature, no network and no training."""
