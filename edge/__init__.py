"""edge: fine-tune a small function-calling model, export it, and measure what that cost."""

__version__ = "0.1.0"
