"""One harness for every generator: features, metrics, controls, scores, reports."""
