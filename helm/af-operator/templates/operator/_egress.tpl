{{/* Rules of egress that every pod of the release needs: names, and the API server, whose address a chart does not know. */}}
{{- define "af-operator.egressToNames" -}}
{{- $dns := include "af-operator.dns" . | fromYaml -}}
- ports:
  {{- range $dns.ports }}
  - {port: {{ . }}, protocol: UDP}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
  to:
  - namespaceSelector:
      matchLabels: {kubernetes.io/metadata.name: {{ $dns.namespace }}}
    podSelector:
      matchLabels: {{- toYaml $dns.podLabels | nindent 8 }}
{{- with $dns.addresses }}
- ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
  to:
  {{- range . }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "af-operator.egressToApi" -}}
- ports:
  {{- range .Values.network.apiServer.ports }}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
  {{- with .Values.network.apiServer.cidrs }}
  to:
  {{- range . }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
  {{- end }}
{{- end }}

{{/* Pods of sessions, wherever they are; with a component's name those of that component. Argument: dict "component". */}}
{{- define "af-operator.sessionPods" -}}
- namespaceSelector: {}
  podSelector:
    {{- with .component }}
    matchLabels: {analysisfacility.io/component: {{ . }}}
    {{- end }}
    matchExpressions:
    - {key: analysisfacility.io/session-uid, operator: Exists}
{{- end }}

{{/* Pods of this release. Argument: dict "component" "root". */}}
{{- define "af-operator.ownPods" -}}
- podSelector:
    matchLabels: {{- include "af-operator.selector" . | nindent 6 }}
{{- end }}
