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

{{/* Addresses of logs and traces by title; those without a value are left out. */}}
{{- define "observability.searches" -}}
{{- $found := dict }}
{{- with .Values.logs }}{{ $_ := set $found "Logs" . }}{{ end }}
{{- with .Values.traces }}{{ $_ := set $found "Traces" . }}{{ end }}
{{- toJson $found }}
{{- end }}

{{/* An address for a namespace and a time. */}}
{{- define "observability.search" -}}
{{- .url | replace "{namespace}" .namespace | replace "{from}" .from | replace "{to}" .to }}
{{- end }}

{{/* A board's text, with links to logs and traces: above the board, and at each point of its graphs. */}}
{{- define "observability.board" -}}
{{- $text := include "observability.linked" . }}
{{- $searches := include "observability.searches" .root | fromJson }}
{{- if $searches }}
{{- $board := $text | fromJson }}
{{- range $title, $url := $searches }}
{{- $at := include "observability.search" (dict "url" $url "namespace" "${namespace:regex}" "from" "${__from}" "to" "${__to}") }}
{{- $link := dict "title" $title "url" $at "targetBlank" true }}
{{- $_ := set $board "links" (append $board.links (merge (dict "type" "link" "icon" "" "tooltip" "" "tags" list "asDropdown" false "includeVars" false "keepTime" false) $link)) }}
{{- range $panel := $board.panels }}
{{- if eq $panel.type "timeseries" }}
{{- $_ := set $panel.fieldConfig.defaults "links" (append ($panel.fieldConfig.defaults.links | default list) $link) }}
{{- end }}
{{- end }}
{{- end }}
{{- toRawJson $board }}
{{- else }}
{{- $text }}
{{- end }}
{{- end }}
