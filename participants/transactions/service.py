"""The service that the modules of this participant add their operations to."""

from participants.contract.service import Service

service = Service("transactions")
