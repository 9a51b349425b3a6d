"""The contract, written down from the code: JSON Schemas, AsyncAPI, and the tables of subjects and settings.

Pure functions from structs and tables to documents. `proto/generate.py` keeps the files of `proto/` and `docs/`.
"""
