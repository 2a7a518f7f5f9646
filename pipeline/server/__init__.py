"""The service that owns the microscope: control API, live images, page and metrics over HTTP."""
