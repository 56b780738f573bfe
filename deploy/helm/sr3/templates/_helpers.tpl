{{- define "sr3.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- /* At most 40 letters, so that what is appended still fits. */}}
{{- define "sr3.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "sr3.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sr3.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sr3.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "sr3.selector" -}}
app.kubernetes.io/name: {{ include "sr3.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sr3.labels" -}}
{{ include "sr3.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sr3.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "sr3.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- /* The Secret of a part's certificates: (list . "coordinator"). */}}
{{- define "sr3.tlsSecret" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}
{{- $given := (index $root.Values.tls $part).existingSecret }}
{{- $given | default (printf "%s-%s-tls" (include "sr3.fullname" $root) $part) }}
{{- end }}

{{- /* Hosts by which coordinators are called, a line each. */}}
{{- define "sr3.coordinatorHosts" -}}
{{- $name := include "sr3.fullname" . }}
{{- $space := .Release.Namespace -}}
- {{ $name }}
- {{ $name }}.{{ $space }}
- {{ $name }}.{{ $space }}.svc
- {{ $name }}-coordinators
{{- range $i := until (int .Values.coordinator.replicas) }}
- {{ $name }}-coordinator-{{ $i }}.{{ $name }}-coordinators.{{ $space }}.svc
{{- end }}
- localhost
{{- end }}

{{- /* Every coordinator by name, with commas: a worker finds the one that serves sooner than the Service does. */}}
{{- define "sr3.coordinators" -}}
{{- $name := include "sr3.fullname" . }}
{{- $space := .Release.Namespace }}
{{- $urls := list }}
{{- range $i := until (int .Values.coordinator.replicas) }}
{{- $urls = append $urls (printf "https://%s-coordinator-%d.%s-coordinators.%s.svc:7070" $name $i $name $space) }}
{{- end }}
{{- join "," $urls }}
{{- end }}

{{- define "sr3.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sr3.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* Environment that every part has: (list . storeSecret). */}}
{{- define "sr3.env" -}}
{{- $root := index . 0 }}{{ $secret := index . 1 -}}
env:
  - name: SR3_LOG
    value: {{ $root.Values.log.filter | quote }}
  - name: SR3_LOG_FORMAT
    value: {{ $root.Values.log.format | quote }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: SR3_CACHE
    value: /cache
  - name: SR3_CACHE_BYTES
    value: {{ $root.Values.worker.cache.bytes | quote }}
  {{- range $name, $value := $root.Values.storeEnv }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with $secret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end }}

{{- /* What a pod is placed by: (list . part's values). */}}
{{- define "sr3.placement" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
