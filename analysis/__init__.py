"""From records to tables, figures and the report; imports no torch and never trains."""
