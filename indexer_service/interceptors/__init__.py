"""
Interceptors of the gRPC service.

The server runs them in this order, outermost first: pacing, request context, metrics, errors, audit, auth, drain,
receive, decoding, idempotency. Those before receive run when the headers have arrived, before the request is read.
"""

from indexer_service.interceptors.audit import AuditInterceptor as AuditInterceptor
from indexer_service.interceptors.auth import AuthInterceptor as AuthInterceptor
from indexer_service.interceptors.base import Interceptor as Interceptor
from indexer_service.interceptors.chain import InterceptorChain as InterceptorChain
from indexer_service.interceptors.decoding import DecodingInterceptor as DecodingInterceptor
from indexer_service.interceptors.drain import DrainInterceptor as DrainInterceptor
from indexer_service.interceptors.errors import ErrorInterceptor as ErrorInterceptor
from indexer_service.interceptors.idempotency import IdempotencyInterceptor as IdempotencyInterceptor
from indexer_service.interceptors.metrics import MetricsInterceptor as MetricsInterceptor
from indexer_service.interceptors.open_methods import OpenMethodsInterceptor as OpenMethodsInterceptor
from indexer_service.interceptors.pacing import PacingInterceptor as PacingInterceptor
from indexer_service.interceptors.receive import ReceiveInterceptor as ReceiveInterceptor
from indexer_service.interceptors.request_context import RequestContextInterceptor as RequestContextInterceptor
