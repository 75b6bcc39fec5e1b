"""Build the report's page."""
