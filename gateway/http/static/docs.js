"use strict";
// Swagger UI has a dark dress and no switch for it: it follows the reader's system, as the dashboard does.
const dark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", dress);
dress();

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  validatorUrl: null, // no badge: it would send this document's address to somebody else
  presets: [SwaggerUIBundle.presets.apis],
});
