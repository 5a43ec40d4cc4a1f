"""Makes the folder that the engine loads: `python -m training --dataset D --size compact --out W`, from a clone."""
