"""An artifact behind OpenAI's chat completions, for an app under development."""
