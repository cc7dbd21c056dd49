{{/*
The variables that all processes get, as YAML: those of settings.env that are not comments, what other values imply, and
.Values.settings, in this order.
*/}}
{{- define "indexer.settings" -}}
{{- $known := dict }}
{{- $found := dict }}
{{- range .Files.Lines "settings.env" }}
{{- if regexMatch "^#?[A-Z][A-Z0-9_]*=" . }}
{{- $pair := splitn "=" 2 . }}
{{- $_ := set $known (trimPrefix "#" $pair._0) $pair._1 }}
{{- if not (hasPrefix "#" .) }}{{ $_ := set $found $pair._0 $pair._1 }}{{ end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.settings }}
{{- if not (hasKey $known $name) }}{{ fail (printf "settings.%s is not a setting; docs/settings.md lists them, secrets come from Secrets" $name) }}{{ end }}
{{- end }}
{{- range $name := list "INDEXER_LISTEN" "INDEXER_PROBE_PORT" "INDEXER_METRICS_PORT" "INDEXER_METRICS_HOST" "WORKERS_METRICS_PORT" "WORKERS_METRICS_HOST" "EXPORTER_PORT" "EXPORTER_HOST" "GATEWAY_METRICS_PORT" "GATEWAY_METRICS_HOST" }}
{{- if hasKey $.Values.settings $name }}{{ fail (printf "settings.%s is fixed: ports, probes, policies and monitors follow it" $name) }}{{ end }}
{{- end }}
{{- range $name, $value := dict "INDEXER_TLS_CERT" "callers.tls" "INDEXER_TLS_KEY" "callers.tls" "INDEXER_SERVICE_TOKENS_FILE" "callers.tokens" "OTEL_EXPORTER_OTLP_ENDPOINT" "tracing.endpoint" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" "tracing.endpoint" "GATEWAY_ENABLED" "gateway.enabled" }}
{{- if hasKey $.Values.settings $name }}{{ fail (printf "settings.%s follows from the value %s" $name $value) }}{{ end }}
{{- end }}
{{- with get .Values.settings "GLOBAL_BUDGET" | toString }}
{{- if not (regexMatch "^[1-9][0-9]*/[0-9.]*[1-9][0-9.]*$" .) }}{{ fail (printf "settings.GLOBAL_BUDGET: %v is not calls/seconds, such as 50/1" .) }}{{ end }}
{{- end }}
{{- if and (hasPrefix "/" (get .Values.settings "AUDIT_LOG" | toString)) (not (hasPrefix "/tmp/" (get .Values.settings "AUDIT_LOG" | toString))) }}{{ fail "settings.AUDIT_LOG: pods can write below /tmp/ alone; stdout is kept by the cluster" }}{{ end }}
{{- with get .Values.settings "DISCORD_API_BASE" | toString }}
{{- if not (regexMatch "^https://[^:/]+(:443)?(/|$)" .) }}{{ fail "settings.DISCORD_API_BASE: the policies open HTTPS to public addresses alone, port 443" }}{{ end }}
{{- end }}
{{- if not (and .Values.callers.tls .Values.callers.tokens) }}
{{- if ne (get .Values.settings "INDEXER_INSECURE" | toString) "1" }}{{ fail "callers: without TLS and tokens everybody who reaches the service may call it; settings.INDEXER_INSECURE: \"1\" allows it" }}{{ end }}
{{- end }}
{{- with .Values.bot.name }}{{ $_ := set $found "MONGODB_DATABASE" (printf "indexer_%s" (replace "-" "_" .)) }}{{ end }}
{{- $sharing := .Values.bot.sharing }}
{{- if gt (int $sharing) 1 }}
{{- range $name := list "LIMITER_STOP_BULK" "LIMITER_STOP_ALL" }}
{{- $_ := set $found $name (divf (get $known $name) $sharing | toString) }}
{{- end }}
{{- end }}
{{- if .Values.callers.tls }}
{{- $_ := set $found "INDEXER_TLS_CERT" "/etc/indexer/tls/tls.crt" }}
{{- $_ := set $found "INDEXER_TLS_KEY" "/etc/indexer/tls/tls.key" }}
{{- $_ := set $found "INDEXER_TLS_CLIENT_CA" "/etc/indexer/tls/ca.crt" }}
{{- end }}
{{- if .Values.callers.tokens }}{{ $_ := set $found "INDEXER_SERVICE_TOKENS_FILE" "/etc/indexer/tokens/tokens" }}{{ end }}
{{- with .Values.tracing.endpoint }}{{ $_ := set $found "OTEL_EXPORTER_OTLP_ENDPOINT" . }}{{ end }}
{{- if .Values.gateway.enabled }}{{ $_ := set $found "GATEWAY_ENABLED" "1" }}{{ end }}
{{- if .Values.devBackends }}
{{- $_ := set $found "DISCORD_API_BASE" "http://simulator:8080/api/v10" }}
{{- range list "DISCORD_INSECURE" "MONGODB_INSECURE" "REDIS_INSECURE" }}{{ $_ := set $found . "1" }}{{ end }}
{{- end }}
{{- range $name, $value := .Values.settings }}{{ $_ := set $found $name ($value | toString) }}{{ end }}
{{- toYaml $found }}
{{- end }}

{{/* One setting's value, its default included: (dict "root" $ "name" NAME). */}}
{{- define "indexer.setting" -}}
{{- $given := include "indexer.settings" .root | fromYaml }}
{{- if hasKey $given .name }}{{ get $given .name }}
{{- else }}{{ regexFind (printf "(?m)^#%s=.*$" .name) (.root.Files.Get "settings.env") | trimPrefix (printf "#%s=" .name) }}
{{- end }}
{{- end }}

{{/* A setting in seconds, rounded up: (dict "root" $ "name" NAME). */}}
{{- define "indexer.seconds" -}}
{{- include "indexer.setting" . | float64 | ceil | int }}
{{- end }}
