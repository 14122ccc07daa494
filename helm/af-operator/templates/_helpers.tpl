{{/* Labels of an object of one of the two operators. Argument: dict "component" "root". */}}
{{- define "af-operator.labels" -}}
{{ include "af-operator.selector" . }}
app.kubernetes.io/part-of: af-operator
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "af-operator.selector" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Whether the operator of DaskClusters is installed: where it is asked for, and where this release has one that DaskClusters still
need. It puts a finalizer on each: were it taken away from under them, neither they nor their namespaces could be deleted. */}}
{{- define "af-operator.daskOperator" -}}
{{- if .Values.daskOperator.enabled }}yes
{{- else }}
{{- $mine := lookup "apps/v1" "Deployment" .Release.Namespace "dask-operator" }}
{{- $release := dig "metadata" "annotations" "meta.helm.sh/release-name" "" ($mine | default dict) }}
{{- if and (eq $release .Release.Name) (dig "items" list (lookup "kubernetes.dask.org/v1" "DaskCluster" "" "" | default dict)) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* The namespaces that were named, as a JSON list; an empty one means all of them, which has to be said. */}}
{{- define "af-operator.namespaces" -}}
{{- $named := .Values.watchNamespaces }}
{{- if not $named }}
{{- fail "watchNamespaces is needed: the namespaces that hold sessions, e.g. --set 'watchNamespaces={physics,detector}'. The operators and JupyterHub have rights in these alone. All namespaces, now and later (as an empty list meant before): --set 'watchNamespaces={*}'" }}
{{- else if and (has "*" $named) (gt (len $named) 1) }}
{{- fail "watchNamespaces: \"*\" means all namespaces: name them, or leave the other names out" }}
{{- end }}
{{- ternary (list) $named (has "*" $named) | toJson }}
{{- end }}

{{- define "af-operator.image" -}}
{{ required "image.operator is needed: the reference of the operator's image, e.g. --set image.operator=registry.example.org/af-operator@sha256:..." .Values.image.operator }}
{{- end }}

{{/* What PSA `restricted` asks for. The image runs as uid 1000; the uid is said here so that no other image runs as root. */}}
{{- define "af-operator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "af-operator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a pod may run. Argument: the values of one operator. */}}
{{- define "af-operator.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Binds the ClusterRole <name>-sessions to a service account: in the whole cluster, or in a few namespaces only.
Argument: dict "name" "account" "labels" "namespaces" "root".
*/}}
{{- define "af-operator.bindSessions" -}}
{{- $argument := . }}
{{- range (.namespaces | default (list "")) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne . "") }}
metadata:
  name: {{ $argument.name }}-sessions
  {{- with . }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- $argument.labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $argument.name }}-sessions}
subjects:
- {kind: ServiceAccount, name: {{ $argument.account }}, namespace: {{ $argument.root.Release.Namespace }}}
{{- end }}
{{- end }}

{{/*
The generated rules in two parts, as {"cluster": [...], "sessions": [...]}: what can only be granted in the
whole cluster, and what can be granted in a few namespaces.
*/}}
{{- define "af-operator.rules" -}}
{{- $clusterScoped := list "analysisprofiles" "analysisprofiles/status" "customresourcedefinitions" "namespaces" "nodes" }}
{{- $cluster := list }}
{{- $sessions := list }}
{{- range (.Files.Get "generated/operator-rules.yaml" | fromYamlArray) }}
{{- $inCluster := 0 }}
{{- range .resources }}{{ if has . $clusterScoped }}{{ $inCluster = add1 $inCluster }}{{ end }}{{ end }}
{{- if eq (int $inCluster) 0 }}
{{- $sessions = append $sessions . }}
{{- else if eq (int $inCluster) (len .resources) }}
{{- $cluster = append $cluster . }}
{{- else }}
{{- fail (printf "generated/operator-rules.yaml: one rule mixes cluster-scoped and namespaced resources: %s" (toJson .)) }}
{{- end }}
{{- end }}
{{- if not $sessions }}
{{- fail "generated/operator-rules.yaml is missing or empty: run `make generate`" }}
{{- end }}
{{- dict "cluster" $cluster "sessions" $sessions | toYaml }}
{{- end }}
