"""Promise O1 on a real node: within a service and priority, first dispatch follows acceptance."""
