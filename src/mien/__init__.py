"""mien: calibrated emotion recognition in face images."""

__version__ = "0.1.0"
