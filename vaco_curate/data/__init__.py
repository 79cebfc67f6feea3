"""Sources and sinks: what files hold, as transitions, and back."""
