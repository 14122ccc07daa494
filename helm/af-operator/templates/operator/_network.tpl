{{/* What the operator is told of the network, as JSON: who may connect to sessions, and what none of them connects to. */}}
{{- define "af-operator.network" -}}
{{- $operator := include "af-operator.selector" (dict "component" "af-operator" "root" .) | fromYaml }}
{{- $network := dict "clusterCidrs" .Values.network.clusterCidrs "dns" (include "af-operator.dns" . | fromYaml)
                     "operator" (dict "namespace" .Release.Namespace "podLabels" $operator) }}
{{- with .Values.network.metrics }}
{{- if .namespace }}{{ $_ := set $network "metrics" . }}{{ end }}
{{- end }}
{{- if .Values.hub.enabled }}
{{- range $who := list "hub" "proxy" }}
{{- $labels := include "af-operator.selector" (dict "component" $who "root" $) | fromYaml }}
{{- $_ := set $network $who (dict "namespace" $.Release.Namespace "podLabels" $labels) }}
{{- end }}
{{- else if .Values.hub.external.apiUrl }}
{{- $external := .Values.hub.external }}
{{- $named := regexFind "^https?://[^./:]+[.][^./:]+[.]svc" $external.apiUrl | splitList "." }}
{{- $namespace := $external.namespace | default (ternary (index (append $named "") 1) "" (gt (len $named) 1)) }}
{{- if $namespace }}
{{- $_ := set $network "hub" (dict "namespace" $namespace "podLabels" ($external.podLabels | default (dict "component" "hub"))) }}
{{- $_ := set $network "proxy" (dict "namespace" $namespace "podLabels" ($external.proxyPodLabels | default (dict "component" "proxy"))) }}
{{- end }}
{{- end }}
{{- toJson $network }}
{{- end }}

{{/* The cluster's DNS. Its labels are no default of the values: helm would add an admin's to them. */}}
{{- define "af-operator.dns" -}}
{{- $labels := .Values.network.dns.podLabels | default (dict "k8s-app" "kube-dns") }}
{{- set (omit .Values.network.dns "podLabels") "podLabels" $labels | toYaml }}
{{- end }}
