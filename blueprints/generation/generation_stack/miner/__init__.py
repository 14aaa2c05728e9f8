"""The miner: fetches tasks from validators, has the worker do them, and hands the results in."""
