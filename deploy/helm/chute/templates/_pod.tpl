{{/* The pod of a gateway, for the Deployment and the StatefulSet. */}}
{{- define "chute.pod" -}}
metadata:
  labels:
    {{- include "chute.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: chute
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "chute.podCommon" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "chute.gracePeriodSeconds" . }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "chute.selector" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  containers:
    - name: chute
      image: {{ include "chute.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      env:
        {{- include "chute.env" . | nindent 8 }}
        {{- include "chute.kafkaEnv" . | nindent 8 }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - { name: http, containerPort: 8080 }
        - { name: admin, containerPort: {{ .Values.adminPort }} }
      # A gateway that waits for Kafka is not ready, and must not be restarted for it.
      startupProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: admin }
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      {{- if gt (int .Values.shutdown.preStopSleepSeconds) 0 }}
      lifecycle:
        preStop:
          exec: { command: [sleep, {{ .Values.shutdown.preStopSleepSeconds | quote }}] }
      {{- end }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: process, mountPath: /etc/chute/process, readOnly: true }
        {{- include "chute.mounts" . | nindent 8 }}
        {{- if .Values.tls.enabled }}
        - { name: tls, mountPath: /etc/chute/tls, readOnly: true }
        {{- if .Values.tls.clientCa.secret }}
        - { name: tls-client-ca, mountPath: /etc/chute/tls-client-ca, readOnly: true }
        {{- end }}
        {{- end }}
        {{- if .Values.persistence.enabled }}
        - { name: data, mountPath: /data }
        {{- end }}
  volumes:
    - { name: process, configMap: { name: {{ include "chute.fullname" . }}-process } }
    {{- include "chute.volumes" . | nindent 4 }}
    {{- if .Values.tls.enabled }}
    - { name: tls, secret: { secretName: {{ .Values.tls.secret }} } }
    {{- with .Values.tls.clientCa.secret }}
    - { name: tls-client-ca, secret: { secretName: {{ . }} } }
    {{- end }}
    {{- end }}
{{- end -}}

{{/* What the pods of gateways and of drains share. */}}
{{- define "chute.podCommon" -}}
serviceAccountName: {{ include "chute.serviceAccount" . }}
# The gateway asks Kubernetes nothing.
automountServiceAccountToken: false
# A Service that is called chute-… would set variables that the gateway does not know, and refuses.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
