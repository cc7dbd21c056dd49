{{/* Networks of backends, each a CIDR or `public`. */}}
{{- define "indexer.peers" -}}
{{- range . }}
{{- if eq . "public" }}
{{- include "indexer.public" $ }}
{{- else }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Every public address and no private one: Discord publishes no list of its addresses. */}}
{{- define "indexer.public" }}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: ::/0
    # The last five are the private addresses above behind NAT64 (RFC 6052), the one before its local prefix.
    except:
      - fc00::/7
      - fe80::/10
      - 64:ff9b:1::/48
      - 64:ff9b::a00:0/104
      - 64:ff9b::6440:0/106
      - 64:ff9b::a9fe:0/112
      - 64:ff9b::ac10:0/108
      - 64:ff9b::c0a8:0/112
{{- end }}

{{- define "indexer.ports" -}}
{{- range . }}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end }}

{{/* Who may scrape. */}}
{{- define "indexer.scrapers" -}}
- from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .Values.monitoring.namespace }}}}
    {{- include "indexer.peers" .Values.monitoring.addresses | nindent 4 }}
  ports:
    - {protocol: TCP, port: metrics}
{{- end }}

{{/*
DNS. NodeLocal DNSCache answers at a link-local address, on clusters with iptables also for the address of kube-dns.
OpenShift's pods listen on 5353, and a policy sees the port of the pod.
*/}}
{{- define "indexer.dns" -}}
{{- $port := eq .Values.dns "openshift" | ternary 5353 53 -}}
- to:
    {{- if eq .Values.dns "openshift" }}
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: openshift-dns}}
      podSelector: {matchLabels: {dns.operator.openshift.io/daemonset-dns: default}}
    {{- else }}
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
    {{- end }}
    {{- if eq .Values.dns "node-local" }}
    - ipBlock: {cidr: 169.254.20.10/32}
    {{- end }}
  ports:
    - {protocol: UDP, port: {{ $port }}}
    - {protocol: TCP, port: {{ $port }}}
{{- end }}
