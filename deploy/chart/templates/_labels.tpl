{{/* Metadata of an object: (dict "root" $ "name" NAME "component" COMPONENT); the component is optional. */}}
{{- define "indexer.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "indexer.labels" . | nindent 2 }}
{{- end }}

{{- define "indexer.labels" -}}
app.kubernetes.io/name: {{ .app | default "indexer" }}
app.kubernetes.io/part-of: discord-channel-indexer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* What selects a process' pods. It cannot change: Kubernetes refuses another selector of a Deployment. */}}
{{- define "indexer.selector" -}}
matchLabels: {app.kubernetes.io/name: indexer, app.kubernetes.io/component: {{ .component }}}
{{- end }}

{{- define "indexer.image" -}}
{{- $image := .root.Values.image }}
{{- $name := printf "%s/discord-channel-indexer-%s" $image.registry .image }}
{{- with get $image.digests .image }}{{ printf "%s@%s" $name . }}{{ else }}{{ printf "%s:%s" $name ($image.tag | default .root.Chart.AppVersion) }}{{ end }}
{{- end }}
