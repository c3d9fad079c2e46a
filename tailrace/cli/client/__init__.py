"""Speaking with gateways over HTTP. Imports no other room of the command line but errors."""
