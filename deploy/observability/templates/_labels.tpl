{{- define "observability.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  app.kubernetes.io/name: discord-channel-indexer
  app.kubernetes.io/part-of: discord-channel-indexer
  app.kubernetes.io/component: observability
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* A generated file whose links lead to the pages of this installation. */}}
{{- define "observability.linked" -}}
{{- .text | replace "https://github.com/discord-channel-indexer/discord-channel-indexer/blob/main/docs" .root.Values.docs }}
{{- end }}
