"""Questions about executions that the gateway and the command line both ask. Imports redis and model."""
