"""One file per kind of device: `local` here; `ssh` and `adb` are to come. A device is a context manager with

name                     what a report calls it
start(script, python=…, log=…, env=…) -> Channel   run an agent there
facts() -> dict          what it is: model, CPU, cores, memory, OS, {"emulated": False}
vitals() -> dict         how it is now: load, temperature, clock, throttling; None where it does not tell
"""
