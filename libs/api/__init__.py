"""The REST API as structs: bodies, queries and answers of every operation, one file a resource.

The gateway decodes and answers with them, the client SDK sends and reads them, and `proto/openapi.json` is written from
them. Only limits that JSON Schema can express stand here; bounds are inclusive, because the validator runs draft 4,
whose integers are as strict as msgspec's.
"""
