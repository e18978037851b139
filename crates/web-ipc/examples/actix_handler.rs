//! An actix-web handler that passes its requests on: each worker thread has a `LocalClient`.
#![allow(clippy::print_stdout)]
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;
use web_ipc::{Client, Home, LocalClient};

async fn pass_on(body: web::Json<Value>, client: web::Data<LocalClient>) -> HttpResponse {
    match client.send(&*body).await {
        Ok(sent) => HttpResponse::Accepted().body(sent.id.to_string()),
        Err(error) if error.is_retryable() => HttpResponse::ServiceUnavailable().finish(),
        Err(error) => HttpResponse::BadRequest().body(error.to_string()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    actix_rt::System::new().block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let builder = Client::builder(&Home::open_default()?).server("localhost", address);
    let server = HttpServer::new(move || {
        let client = builder.clone().build_local().expect("the home has all that a client needs");
        App::new().app_data(web::Data::new(client)).route("/jobs", web::post().to(pass_on))
    });
    let server = server.bind("127.0.0.1:0")?;
    println!("listening on {}", server.addrs()[0]);
    Ok(server.workers(1).run().await?)
}
