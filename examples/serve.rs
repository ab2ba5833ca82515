fn main() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let config = tenantgate::config::load(&text, &tenantgate::config::EmptyEnvironment)
        .map_err(|p| format!("{p:?}"))
        .unwrap()
        .config;
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    rt.block_on(tenantgate::driver::serve(config)).unwrap();
}
