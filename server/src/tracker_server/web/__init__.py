"""The HTTP front door: routes, who may use them, and what they answer with."""
