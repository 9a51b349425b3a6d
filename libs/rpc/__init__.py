"""Requests and replies between services: `signal.rpc.<service>.<verb>`, msgpack; one file a subject.

A request's first line names its verb, its reply and the errors of its own: `proto/` is written from it. A failed call
answers with `Fault`; its code maps one to one to the REST error codes (`libs.errors`).
"""

from libs.rpc.acceptance import *
from libs.rpc.api_keys import *
from libs.rpc.application import *
from libs.rpc.audit import *
from libs.rpc.breakers import *
from libs.rpc.caps import *
from libs.rpc.credentials import *
from libs.rpc.fault import *
from libs.rpc.imports import *
from libs.rpc.keys import *
from libs.rpc.lifecycle import *
from libs.rpc.message_control import *
from libs.rpc.stops import *
from libs.rpc.subscription import *
from libs.rpc.templating import *
from libs.rpc.users import *
