// The process that holds a pod's sandbox open.
module hubstorage.io/e2e/pause

go 1.26.0
