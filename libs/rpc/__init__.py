"""Requests and replies between services: `signal.rpc.<service>.<verb>`, msgpack; one file a service.

A request's first line names its verb, its reply and the errors of its own: `proto/` is written from it. A failed call
answers with `Fault`; its code maps one to one to the REST error codes (`libs.errors`).
"""

from libs.rpc.application import *
from libs.rpc.fault import *
from libs.rpc.imports import *
from libs.rpc.keys import *
from libs.rpc.lifecycle import *
from libs.rpc.subscription import *
from libs.rpc.templating import *
from libs.rpc.users import *
