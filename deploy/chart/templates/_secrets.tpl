{{/* Every secret: variable, Secret, key, and whether it may be missing. docs/deploy.md tells what each contains. */}}
{{- define "indexer.secrets" -}}
- {variable: DISCORD_BOT_TOKEN, secret: indexer-discord, key: bot-token, optional: false}
- {variable: DISCORD_CLIENT_SECRET, secret: indexer-discord, key: client-secret, optional: true}
- {variable: INDEXER_CREDENTIAL_KEYS, secret: indexer-keys, key: credential-keys, optional: false}
- {variable: REDIS_URL, secret: indexer-backends, key: redis-url, optional: false}
- {variable: MONGODB_URL, secret: indexer-backends, key: mongodb-url, optional: false}
{{- end }}

{{/*
The secrets of one process, .secrets being the names of its variables. As a file, one that may be missing is named only
when DISCORD_CLIENT_ID is set, since a variable that names a missing file is an error.
*/}}
{{- define "indexer.ownsecrets" -}}
{{- $client := include "indexer.setting" (dict "root" .root "name" "DISCORD_CLIENT_ID") }}
{{- range include "indexer.secrets" . | fromYamlArray }}
{{- if and (has .variable $.secrets) (or (not .optional) $client (not $.root.Values.secrets.files)) }}
- {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "indexer.secretenv" -}}
{{- range include "indexer.ownsecrets" . | fromYamlArray }}
{{- if $.root.Values.secrets.files }}
- name: {{ .variable }}_FILE
  value: /etc/indexer/secrets/{{ .key }}
{{- else }}
- name: {{ .variable }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}{{ if .optional }}, optional: true{{ end }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "indexer.secretvolume" -}}
- name: secrets
  projected:
    defaultMode: 288
    sources:
      {{- range include "indexer.ownsecrets" . | fromYamlArray }}
      - secret: {name: {{ .secret }}, items: [{key: {{ .key }}, path: {{ .key }}}]}
      {{- end }}
{{- end }}
