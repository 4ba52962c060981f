"""The endpoints of the OCI distribution specification, a module for each noun."""
