"""
Settings from environment variables, one frozen group per concern; the only place that reads the environment.

The docstring of a field gives its meaning, its unit and the reason for its default; docs/settings.md is generated from
these docstrings.
"""

from indexing.settings.discord import DiscordSettings as DiscordSettings
from indexing.settings.discord import LimiterSettings as LimiterSettings
from indexing.settings.discord import OAuthSettings as OAuthSettings
from indexing.settings.fields import Rate as Rate
from indexing.settings.fields import RateField as RateField
from indexing.settings.fields import is_secret as is_secret
from indexing.settings.fields import variable as variable
from indexing.settings.gateway import GatewaySettings as GatewaySettings
from indexing.settings.indexing import IndexingSettings as IndexingSettings
from indexing.settings.indexing import RankWeights as RankWeights
from indexing.settings.infrastructure import KEY_BYTES as KEY_BYTES
from indexing.settings.infrastructure import AuditSettings as AuditSettings
from indexing.settings.infrastructure import LogSettings as LogSettings
from indexing.settings.infrastructure import MongoSettings as MongoSettings
from indexing.settings.infrastructure import RedisSettings as RedisSettings
from indexing.settings.infrastructure import SecretSettings as SecretSettings
from indexing.settings.infrastructure import TraceSettings as TraceSettings
from indexing.settings.loading import GROUPS as GROUPS
from indexing.settings.loading import BadSettings as BadSettings
from indexing.settings.loading import ExporterConfig as ExporterConfig
from indexing.settings.loading import KeysConfig as KeysConfig
from indexing.settings.loading import MigrationConfig as MigrationConfig
from indexing.settings.loading import Settings as Settings
from indexing.settings.loading import StopsConfig as StopsConfig
from indexing.settings.loading import load as load
from indexing.settings.loading import load_exporter as load_exporter
from indexing.settings.loading import load_keys as load_keys
from indexing.settings.loading import load_migration as load_migration
from indexing.settings.loading import load_stops as load_stops
from indexing.settings.processes import ExporterSettings as ExporterSettings
from indexing.settings.processes import ServiceSettings as ServiceSettings
from indexing.settings.processes import WorkerSettings as WorkerSettings
from indexing.settings.server_urls import SentinelUrl as SentinelUrl
