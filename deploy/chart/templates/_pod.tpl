{{/* What every pod has: unprivileged, no token of the cluster. (dict "root" $ "component" C "priority" P "grace" SECONDS). */}}
{{- define "indexer.podspec" -}}
serviceAccountName: indexer-{{ .account | default .component }}
automountServiceAccountToken: false
# Without this, a Service called "redis" would put REDIS_PORT and others into our environment.
enableServiceLinks: false
priorityClassName: indexer-{{ .priority }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
terminationGracePeriodSeconds: {{ .grace }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .spread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      {{- include "indexer.selector" $ | nindent 6 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{- define "indexer.containersecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A process: one container. .secrets names what it needs, .probes is the text of its probes. */}}
{{- define "indexer.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "indexer.metadata" (dict "root" .root "name" (printf "indexer-%s" .component) "component" .component) | nindent 2 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  {{- if .recreate }}
  strategy: {type: Recreate}
  {{- else }}
  minReadySeconds: 5
  progressDeadlineSeconds: 300
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  {{- end }}
  selector:
    {{- include "indexer.selector" . | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "indexer.labels" . | nindent 8 }}
      annotations:
        # A change of settings is a rollout.
        checksum/settings: {{ include "indexer.settings" .root | sha256sum }}
    spec:
      {{- include "indexer.podspec" . | nindent 6 }}
      containers:
        - name: {{ .component }}
          image: {{ include "indexer.image" . }}
          {{- with .command }}
          command: {{ toJson . }}
          {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - {name: {{ $name }}, containerPort: {{ $port }}}
            {{- end }}
          env:
            {{- include "indexer.secretenv" . | nindent 12 }}
          envFrom:
            - configMapRef: {name: indexer-settings}
          {{- .probes | nindent 10 }}
          {{- with .pause }}
          lifecycle:
            preStop: {sleep: {seconds: {{ . }}}}
          {{- end }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          securityContext:
            {{- include "indexer.containersecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if .root.Values.secrets.files }}
            - {name: secrets, mountPath: /etc/indexer/secrets, readOnly: true}
            {{- end }}
            {{- range .mounts }}
            - {name: {{ .name }}, mountPath: /etc/indexer/{{ .name }}, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 16Mi}
        {{- if .root.Values.secrets.files }}
        {{- include "indexer.secretvolume" . | nindent 8 }}
        {{- end }}
        {{- range .mounts }}
        - name: {{ .name }}
          secret: {{ toJson .secret }}
        {{- end }}
{{- end }}

{{/* Probes over HTTP, of the processes without gRPC. */}}
{{- define "indexer.httpprobes" -}}
startupProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
  timeoutSeconds: 2
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  failureThreshold: 3
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  failureThreshold: 2
  timeoutSeconds: 2
{{- end }}

{{- define "indexer.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "indexer.metadata" (dict "root" .root "name" (printf "indexer-%s" .component) "component" .component) | nindent 2 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody: it must not hold up a node that is to be emptied.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    {{- include "indexer.selector" . | nindent 4 }}
{{- end }}
