"""The routers: functions from one update to its prototypes, found by ``sim.model.routing.ROUTERS``."""
