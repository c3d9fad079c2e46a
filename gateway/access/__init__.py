"""Who may do what here: scopes, tenants, limits, the Host and Origin headers, for every route in one dependency.

May import context and what is below it.
"""
