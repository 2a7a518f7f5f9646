"""Micro-Manager: camera, light, lens and stage through its core, in this process or in a running one."""
