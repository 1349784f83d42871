"""The worker that runs in the cloud: it verifies drafts with the target model; its state is disposable."""
