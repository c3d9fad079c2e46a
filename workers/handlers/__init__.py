"""Code that runs when something happens: in one execution, or in all of them, durably."""

from workers.handlers.delivery import Delivery
from workers.handlers.handlers import Handler, Handlers

__all__ = ["Delivery", "Handler", "Handlers"]
