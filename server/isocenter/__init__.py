"""Medical-imaging APIs as checked MCP tools and typed clients, with a sandbox that behaves like the real services."""

__version__ = "0.1.0"
