{{- /* The agent's DaemonSet: .nvidia says whether it is the one for nodes with NVIDIA's runtime. */ -}}
{{- define "tracker.daemonSet" -}}
{{- $root := .root }}
{{- $agent := .root.Values.agent }}
{{- $name := include "tracker.agentName" .root }}
{{- $named := dict "root" .root "name" (ternary "tracker-agent-nvidia" "tracker-agent" .nvidia) -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ ternary (printf "%s-nvidia" $name) $name .nvidia }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "tracker.metadataLabels" $named | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "tracker.labels" $named | nindent 6 }}
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 10%
  template:
    metadata:
      labels:
        {{- include "tracker.labels" $named | nindent 8 }}
        app.kubernetes.io/part-of: tracker
        app.kubernetes.io/component: agent
    spec:
      serviceAccountName: {{ $name }}
      # The agent asks Kubernetes nothing.
      automountServiceAccountToken: false
      # Variables of Services would be called TRACKER_AGENT_…, as the settings are.
      enableServiceLinks: false
      # Pids of all pods, for who writes a run, and how it ended; the node's interfaces and its name.
      hostPID: true
      hostNetwork: true
      dnsPolicy: ClusterFirstWithHostNet
      terminationGracePeriodSeconds: 20
      {{- with $agent.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if and .nvidia $agent.nvidia.runtimeClassName }}
      runtimeClassName: {{ $agent.nvidia.runtimeClassName }}
      {{- end }}
      securityContext:
        # Of the key's file.
        fsGroup: 60906
        seccompProfile:
          type: RuntimeDefault
      {{- with $root.Values.images.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      initContainers:
        # The directories of the node, as packaging/tmpfiles.d makes them where the package is installed.
        - name: directories
          image: {{ include "tracker.image" (dict "root" $root "image" $root.Values.images.agent) | quote }}
          imagePullPolicy: {{ $root.Values.images.agent.pullPolicy }}
          command: ["/bin/sh", "-euc"]
          args:
            - |
              state=$1
              shift
              chown 60906:60906 "$state"
              chmod 0700 "$state"
              for spool; do
                  chown 60906:60906 "$spool"
                  chmod 1733 "$spool"
                  setfacl -m d:u::rwx,d:g::---,d:g:60906:rwx,d:m::rwx,d:o::--- "$spool"
              done
            - directories
            - {{ $agent.stateDir | quote }}
            {{- range $agent.spools }}
            - {{ . | quote }}
            {{- end }}
          resources:
            requests:
              cpu: 10m
              memory: 16Mi
            limits:
              memory: 64Mi
          securityContext:
            runAsUser: 0
            runAsGroup: 0
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
              add: [CHOWN, FOWNER]
          volumeMounts:
            - name: state
              mountPath: {{ $agent.stateDir }}
            {{- range $index, $spool := $agent.spools }}
            - name: spool-{{ $index }}
              mountPath: {{ $spool }}
            {{- end }}
      containers:
        - name: agent
          image: {{ include "tracker.image" (dict "root" $root "image" $root.Values.images.agent) | quote }}
          imagePullPolicy: {{ $root.Values.images.agent.pullPolicy }}
          env:
            - name: NODE_NAME
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
            - name: TRACKER_AGENT_SERVER_URL
              value: {{ include "tracker.serverUrl" $root | quote }}
            {{- with $root.Values.server.publicUrl }}
            - name: TRACKER_AGENT_SERVER_PUBLIC_URL
              value: {{ . | quote }}
            {{- end }}
            - name: TRACKER_AGENT_SERVER_KEY_FILE
              value: /etc/tracker/key/{{ $agent.key.entry }}
            {{- if $agent.caConfigMap }}
            - name: TRACKER_AGENT_SERVER_CA_FILE
              value: /etc/tracker/ca/ca.pem
            {{- end }}
            - name: TRACKER_AGENT_AGENT_STATE_DIR
              value: {{ $agent.stateDir | quote }}
            - name: TRACKER_AGENT_AGENT_SPOOLS
              value: {{ $agent.spools | join ":" | quote }}
            {{- with $agent.uidMap }}
            - name: TRACKER_AGENT_AGENT_UID_MAP
              value: {{ join ":" . | quote }}
            {{- end }}
            - name: TRACKER_AGENT_METRICS_LISTEN
              value: {{ printf "%s:%v" (ternary "0.0.0.0" "127.0.0.1" $agent.metrics.allowRemote) $agent.metrics.port | quote }}
            - name: TRACKER_AGENT_METRICS_ALLOW_REMOTE
              value: {{ $agent.metrics.allowRemote | quote }}
            {{- if .nvidia }}
            # NVML, and nothing of CUDA: no GPU is taken from anybody.
            - name: NVIDIA_VISIBLE_DEVICES
              value: all
            - name: NVIDIA_DRIVER_CAPABILITIES
              value: utility
            {{- end }}
            {{- range $setting, $value := $agent.settings }}
            - name: {{ $setting }}
              value: {{ $value | quote }}
            {{- end }}
          ports:
            - name: metrics
              containerPort: {{ $agent.metrics.port }}
              hostPort: {{ $agent.metrics.port }}
          # 503 where a loop is stuck, so that a restart helps; not where the server is away.
          livenessProbe:
            httpGet:
              host: 127.0.0.1
              path: /healthz
              port: metrics
            initialDelaySeconds: 10
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 3
          # 503 while nothing can be shipped.
          readinessProbe:
            httpGet:
              host: 127.0.0.1
              path: /readyz
              port: metrics
            periodSeconds: 10
            timeoutSeconds: 5
          resources:
            {{- toYaml $agent.resources | nindent 12 }}
          securityContext:
            runAsNonRoot: true
            runAsUser: 60906
            runAsGroup: 60906
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          volumeMounts:
            - name: state
              mountPath: {{ $agent.stateDir }}
            {{- range $index, $spool := $agent.spools }}
            - name: spool-{{ $index }}
              mountPath: {{ $spool }}
            {{- end }}
            # Streams belong to the machine that wrote them; this says which one this is.
            - name: machine-id
              mountPath: /etc/machine-id
              readOnly: true
            - name: key
              mountPath: /etc/tracker/key
              readOnly: true
            {{- if $agent.caConfigMap }}
            - name: ca
              mountPath: /etc/tracker/ca
              readOnly: true
            {{- end }}
            - name: tmp
              mountPath: /tmp
      volumes:
        - name: state
          hostPath:
            path: {{ $agent.stateDir }}
            type: DirectoryOrCreate
        {{- range $index, $spool := $agent.spools }}
        - name: spool-{{ $index }}
          hostPath:
            path: {{ $spool }}
            type: DirectoryOrCreate
        {{- end }}
        - name: machine-id
          hostPath:
            path: /etc/machine-id
            type: File
        - name: key
          secret:
            secretName: {{ $agent.key.secret }}
            defaultMode: 0440
        {{- with $agent.caConfigMap }}
        - name: ca
          configMap:
            name: {{ . }}
        {{- end }}
        - name: tmp
          emptyDir: {}
      {{- with $agent.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $agent.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $agent.nvidia.enabled }}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - key: {{ $agent.nvidia.nodeLabel }}
                    {{- if .nvidia }}
                    operator: In
                    values: ["true"]
                    {{- else }}
                    operator: NotIn
                    values: ["true"]
                    {{- end }}
      {{- end }}
{{- end -}}
