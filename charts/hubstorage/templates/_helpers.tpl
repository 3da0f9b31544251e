{{/* Labels of an object that belongs to the part of this name; (list $ "hubstorage-serve"). */}}
{{- define "hubstorage.labels" -}}
{{- $root := index . 0 -}}
{{ include "hubstorage.selector" (index . 1) }}
app.kubernetes.io/part-of: hubstorage
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* What a part's pods are found by. Deployments cannot change it: nothing that a release decides. */}}
{{- define "hubstorage.selector" -}}
app.kubernetes.io/name: {{ . }}
{{- end }}

{{/* Labels of a part's pods; (list .Values.serve "hubstorage-serve"). Nothing that every release changes. */}}
{{- define "hubstorage.podLabels" -}}
{{ include "hubstorage.selector" (index . 1) }}
app.kubernetes.io/part-of: hubstorage
{{- with (index . 0).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A reference to an image; (list $ .Values.image). */}}
{{- define "hubstorage.image" -}}
{{- $image := index . 1 -}}
{{ printf "%s:%s" $image.repository ($image.tag | default (index . 0).Chart.AppVersion) | quote }}
{{- end }}

{{/* What PodSecurity "restricted" asks of a pod. */}}
{{- define "hubstorage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* … and of a container. */}}
{{- define "hubstorage.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Secrets with a registry's credentials. */}}
{{- define "hubstorage.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* HOST:PORT of the agent: an IPv6 address stands in brackets. */}}
{{- define "hubstorage.agentAddress" -}}
{{- $host := .Values.agent.address -}}
{{- if contains ":" $host -}}{{ $host = printf "[%s]" $host }}{{- end -}}
{{ printf "%s:%v" $host .Values.agent.port }}
{{- end }}

{{/* Where Prometheus finds the metrics of a pod; the port's number. */}}
{{- define "hubstorage.metricsAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ . | quote }}
prometheus.io/path: /metrics
{{- end }}

{{/* Where the pods of a part go: (list .Values.serve "hubstorage-serve"). */}}
{{- define "hubstorage.placement" -}}
{{- $values := index . 0 -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "hubstorage.selector" (index . 1) | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "hubstorage.selector" (index . 1) | nindent 8 }}
{{- end }}
