-- Script for wrk. It sends each call in a file once. A call has three lines: the Authorization header, the Idempotency-Key
-- (or an empty line), and the body. Then it requests a cheap page until it is killed.

local lines
local is_first = true -- wrk inspects the first request and does not send it
local is_over = false

function init(args)
  lines = io.lines(args[1])
end

function request()
  local authorization = nil
  if is_first then
    is_first = false
  elseif not is_over then
    authorization = lines()
    is_over = authorization == nil
  end
  if authorization == nil then
    return wrk.format("GET", "/admin/login/")
  end
  local headers = {["Authorization"] = authorization, ["Content-Type"] = "application/json"}
  local key = lines()
  if key ~= "" then
    headers["Idempotency-Key"] = key
  end
  return wrk.format("POST", "/products/", headers, lines())
end
